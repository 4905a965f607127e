"""Tables, figures and pages from numbers and arrays; imports neither JAX nor the model."""
