"""Point-in-time features: contracts, timeline, requests, candidates, behaviour. Imports nothing of ours."""
