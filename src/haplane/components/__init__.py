"""One module per piece of software haplane manages: its files, validator, reload rule and status parser. Pure."""
