"""What is particular to TensorRT-LLM."""


def decoding_of(era: str, sharing: int) -> str:
    """The kind of kernel that decode attention runs in when `sharing` query heads share a KV head.

    Kernels that compute shared heads together, on matrix units, came to TensorRT-LLM with 0.8, at
    first for eight heads alone; before, and for other numbers up to 0.10, each query head read
    the cache and computed on the vector units by itself.
    """
    if sharing == 1:
        return "single heads"
    if era == "static-0.7" or (era in ("static", "0.10") and sharing != 8):
        return "shared heads one by one"
    return "shared heads together"
