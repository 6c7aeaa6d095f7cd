"""The models of a made-up team."""

# A name, what a million tokens in and out cost in dollars, and its share of the calls.
MODELS = (("gpt-4o-mini", "0.15", "0.60", 5), ("gpt-oss-20b", "0.05", "0.20", 3), ("gpt-4o", "2.50", "10", 1))
