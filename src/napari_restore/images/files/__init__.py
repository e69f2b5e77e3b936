"""File access shared by readers and writers: GDAL's datasets, TIFF directories, photo tags."""
