"""Right answers, made from the library, and usual mistakes with their sentences: one module a lab."""
