"""What is measured: architectures, the tokenizer, and weights, synthetic or pretrained."""
