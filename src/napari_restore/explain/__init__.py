"""Which pixels made a result: gradients along a path, and what their maps say."""
