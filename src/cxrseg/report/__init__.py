"""Every HTML page, and its template."""
