"""From results to what people and gates read; sees no benchmark and no model."""
