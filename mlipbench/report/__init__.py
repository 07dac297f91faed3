"""The leaderboard, from manifests, metrics and scores only."""
