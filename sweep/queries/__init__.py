"""Questions asked of results: select, filter, reduce."""
