"""What readers and writers of files share: GDAL's datasets, TIFF directories, photo tags."""
