(() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const chart = document.getElementById("chart");
  const select = document.getElementById("cost");
  data.costs.forEach((cost, index) => select.add(new Option(`${cost.title} – ${cost.name}`, index)));
  const draw = () => {
    const cost = data.costs[select.value];
    const traces = data.figure.data.map((trace, index) => ({ ...trace, x: cost.x[index] }));
    const { xaxis, ...rest } = data.figure.layout;
    const layout = { ...rest, xaxis: { ...xaxis, title: { text: cost.axis }, ...cost.formats } };
    const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
    Plotly.react(chart, traces, layout, config);
  };
  select.addEventListener("change", draw);
  draw();
})();
