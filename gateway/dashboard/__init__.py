"""What calls came to, to look at: the dashboard, and the calls behind a number."""
