"""Episodes to be looked at in a browser: turned, zoomed, scrubbed, beside their reference."""
