"""
An article's table
==================

Throughputs of TensorRT-LLM on LLaMA 7B and one A100, with the estimates of LLM-Viewer and ours,
before and after calibration; :doc:`/article` tells where they differ, and why.
"""

import sweep

figure = sweep.article_table()
