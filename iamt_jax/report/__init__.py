"""Numbers to tables and figures; knows neither JAX nor the model."""
