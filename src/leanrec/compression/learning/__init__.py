"""What steps of compression need torch for: the network of a served encoder again, and its fine-tuning."""
