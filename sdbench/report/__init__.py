"""From records to one self-contained HTML file: typed view, dumb templates, charts without JavaScript."""
