"""Which operators of torch and torchvision plainly multiply no matrices.

An operator that is neither plain nor has a rule, nor is made of such, may multiply: a count without it is a
lower bound. So what is not known here is never taken for plain: an operator of a later torch, of a user's
extension, a factorisation, a Fourier transform.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from kdbench.efficiency.rules import rule_of

# Beside these are plain: what torch tags as pointwise, views, and what takes no tensor.
_PLAIN = """
Bool Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __lshift__ __or__ __rshift__ __xor__
_adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _aminmax _assert_async _assert_tensor_metadata
_batch_norm_no_update _batch_norm_with_update _batch_norm_with_update_functional _chunk_cat _coalesced
_conj_physical _copy_from _efficientzerotensor _embedding_bag _embedding_bag_forward_only
_fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_tensor_affine
_fake_quantize_per_tensor_affine_cachemask_tensor_qparams _fill_mem_eff_dropout_mask _foreach_norm
_foreach_zero _fused_dropout _fused_moving_avg_obs_fq_helper _fused_moving_avg_obs_fq_helper_functional
_fused_rms_norm _fused_sdp_choice _has_same_storage_numel _index_put_impl _is_all_true _is_any_true
_jagged_to_padded_dense_forward _lazy_clone _local_scalar_dense _log_softmax _logcumsumexp
_make_per_channel_quantized_tensor _make_per_tensor_quantized_tensor _masked_scale _masked_softmax
_mkldnn_reshape _mkldnn_transpose _native_batch_norm_legit _native_batch_norm_legit_functional
_native_batch_norm_legit_no_training _nested_from_padded _nested_from_padded_tensor _nested_get_lengths
_nested_get_offsets _nested_tensor_from_mask _nested_tensor_from_tensor_list _nested_tensor_size
_pack_padded_sequence _pad_circular _pad_enum _pad_packed_sequence _padded_dense_to_jagged_forward
_pin_memory _prelu_kernel _resize_output _safe_softmax _sample_dirichlet _shape_as_tensor _softmax _stack
_standard_gamma _thnn_fused_gru_cell _thnn_fused_lstm_cell _to_copy _to_dense _transform_bias_rescale_qkv
_unique _unique2 _unsafe_index _unsafe_index_put _unsafe_masked_index _unsafe_view _upsample_bicubic2d_aa
_upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
_upsample_nearest_exact3d _weight_norm _weight_norm_interface adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d all allclose alpha_dropout
amax amin aminmax any arange argmax argmin argsort as_strided_scatter avg_pool1d avg_pool2d avg_pool3d
batch_norm batch_norm_elemt batch_norm_stats bernoulli binary_cross_entropy binary_cross_entropy_with_logits
bincount binomial bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor block_diag
broadcast_tensors bucketize cartesian_prod cat cauchy channel_shuffle choose_qparams_optimized chunk clone
col2im combinations complex concat concatenate constant_pad_nd contiguous copysign cosine_similarity
count_nonzero cudnn_batch_norm cummax cummin cumprod cumsum dense_dim dequantize detach diag_embed
diagonal_scatter diff dim dist dropout elu embedding embedding_bag embedding_renorm empty_like equal
expand_as exponential fake_quantize_per_channel_affine fake_quantize_per_channel_affine_cachemask
fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask feature_alpha_dropout
feature_dropout fill fill_diagonal flatten flip fliplr flipud floor_divide fractional_max_pool2d
fractional_max_pool3d full_like fused_moving_avg_obs_fake_quant gather gelu geometric get_device glu
grid_sampler grid_sampler_2d grid_sampler_3d group_norm hardshrink hardsigmoid hardswish hardtanh
hash_tensor heaviside histc histogram huber_loss im2col index index_add index_copy index_fill index_put
index_reduce index_select instance_norm int_repr is_complex is_floating_point is_nonzero is_pinned
is_same_size isclose isin isnan item kthvalue l1_loss layer_norm leaky_relu lift lift_fresh linalg_cross
linalg_vector_norm linspace local_response_norm log_normal log_sigmoid log_sigmoid_forward log_softmax
logcumsumexp logspace logsumexp lu_unpack masked_fill masked_scatter masked_select max max_pool1d
max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d
max_unpool3d mean median meshgrid min miopen_batch_norm mish mkldnn_adaptive_avg_pool2d mkldnn_max_pool2d
mkldnn_max_pool3d mode mse_loss multinomial nanmean nanmedian nansum native_batch_norm
native_channel_shuffle native_dropout native_group_norm native_layer_norm native_norm new_empty
new_empty_strided new_full new_ones new_zeros nll_loss nll_loss2d_forward nll_loss_forward nonzero
nonzero_static norm normal normal_functional numel one_hot ones_like pad pad_sequence pairwise_distance
permute pixel_shuffle pixel_unshuffle poisson prelu prod put q_per_channel_axis q_per_channel_scales
q_per_channel_zero_points q_scale q_zero_point quantize_per_channel quantize_per_tensor
quantize_per_tensor_dynamic quantized_batch_norm quantized_max_pool1d quantized_max_pool2d
quantized_max_pool3d rand_like randint randint_like randn_like random randperm ravel reflection_pad1d
reflection_pad2d reflection_pad3d relu renorm repeat repeat_interleave replication_pad1d replication_pad2d
replication_pad3d reshape reshape_as resize resize_as resolve_conj resolve_neg rms_norm roll rot90
rrelu_with_noise rsub scalar_tensor scatter scatter_add scatter_reduce searchsorted segment_reduce
select_scatter set size slice_scatter smooth_l1_loss softmax softplus softshrink sort sparse_dim split
split_with_sizes squeeze stack std std_mean sum take take_along_dim threshold tile to to_padded_tensor topk
trace tril tril_indices triu triu_indices type_as unflatten unfold_copy uniform unique_consecutive
unique_dim unsafe_chunk unsafe_split unsafe_split_with_sizes upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean
where zero zeros_like
"""
_PLAIN_VISION = "box_iou_rotated nms ps_roi_align ps_roi_pool qnms qroi_align roi_align roi_pool"
PLAIN = frozenset(
    [
        *(f"aten::{name}" for name in _PLAIN.split()),
        *(f"torchvision::{name}" for name in _PLAIN_VISION.split()),
    ]
)


@cache
def is_plain(name: str) -> bool:
    """Return whether an operator (``aten::add_``) plainly multiplies no matrices."""
    namespace, _, base = name.removesuffix("_").partition("::")
    if f"{namespace}::{base}" in PLAIN:
        return True
    if namespace != "aten":
        return False
    if rule_of(name):
        return False
    alike = f"aten::{base.removeprefix('_foreach_').removesuffix('_copy')}"
    return any(map(_has_plain_schema, (*_overloads(name), *_overloads(alike))))


def _overloads(name: str) -> list[Any]:
    namespace, _, base = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), base, None)
    return [getattr(packet, overload) for overload in packet.overloads()] if packet is not None else []


def _has_plain_schema(operator: Any) -> bool:
    schema = operator._schema
    if torch.Tag.pointwise in operator.tags:
        return True
    if not any("Tensor" in str(argument.type) for argument in schema.arguments):
        return True
    aliases = [output.alias_info for output in schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
