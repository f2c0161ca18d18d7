"""What is added to finished records: costs, corruptions, independent teachers, metrics scored anew."""
