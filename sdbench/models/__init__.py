"""What is measured: pipelines, tokenizers and weights, synthetic or pretrained."""
