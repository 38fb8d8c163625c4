"""
An article's meshes
===================

The ratio of A100 to H20 for the four models of an article on choosing GPUs; :doc:`/article`
compares its meshes with these.
"""

import sweep

figure = sweep.article_meshes()
