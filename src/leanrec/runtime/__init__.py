"""The Recommender (requests to rankings), its sources, engines and bundles. Torch is never imported here."""
