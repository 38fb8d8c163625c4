"""Results as NetCDF, Zarr and tables."""
