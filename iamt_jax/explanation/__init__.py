"""Why a logit is what it is: contributions that add up to it, and where they come from."""
