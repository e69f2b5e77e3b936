"""Methods that go along no path: ours, captum's, and those of other packages."""
