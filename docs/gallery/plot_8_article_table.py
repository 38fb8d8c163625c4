"""
An article's table
==================

Throughputs of LLaMA 7B under TensorRT-LLM on one A100, with the estimates of LLM-Viewer and ours,
before and after calibration; :doc:`/article` explains the differences.
"""

import sweep

figure = sweep.article_table()
