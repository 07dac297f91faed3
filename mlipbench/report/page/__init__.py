"""The leaderboard as one page of HTML that needs nothing but a browser."""
