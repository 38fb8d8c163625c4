"""Sizes at which a grid is divided into shards, tiles and chunks."""

SHARD_BYTES = 2**26
"""Most values in a shard: enough that starting a file is cheap, and little memory for each of the
shards in flight. An accelerator computes as much in one tile, so that the call takes longer than
its start. [byte]"""
ONE_FILE_BYTES = 10**9
"""A larger result becomes a folder of shards unless it is reduced; a shard that is reduced before
it is written covers at most as much. Larger than most memory has to spare. [byte]"""
ONE_TILE_BYTES = 2**29
"""A result up to this size is one tile where the kernel can compute it so: several shards may share
the tile, which stays in memory as long as they are computed. [byte]"""
ONE_ARRAY_BYTES = 2**28
"""Largest variable of such a tile: one array of twice the size takes as much memory again where
shards are written from it. [byte]"""
TILE_BYTES = 2**22
"""Most values in a tile that is copied into its result: it stays in a processor's cache. [byte]"""
REDUCED_IN_TILES = 2**24
"""Fewest points of a grid that is reduced on the device: compiling the reduction takes as long as
reducing some million points without. [count]"""
SHARE_OF_DEVICE = 16
"""A tile takes at most this fraction, one in so many, of an accelerator's memory. [1]"""
CELLS_AT_ONCE = 2**23
"""Most cells of a stored result in memory at once, while it is reduced or written again. [count]"""
ROWS_AT_ONCE = 500_000
"""Rows of a table in memory at once: pandas needs some hundred bytes for each. [count]"""
NETCDF_CHUNK_CELLS = 2**18
"""Cells of a compressed chunk in NetCDF: a megabyte of float32, the default cache of a reader.
[count]"""
ZARR_CHUNK_CELLS = 2**21
"""Cells of a chunk in Zarr, which is a file of its own: eight megabytes of float32. [count]"""
VERIFIED_BYTES = 2**31
"""Largest file whose checksum is verified whenever it is opened; that of a larger one takes seconds
and is verified by `llm-sweep check`. [byte]"""
