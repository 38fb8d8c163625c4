"""
An article's meshes
===================

A100 over H20 for the four models of an article on choosing GPUs, which :doc:`/article` sets beside
these pictures.
"""

import sweep

figure = sweep.article_meshes()
