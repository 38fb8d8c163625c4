"""Checks of a run's figures against one another: Little's law, latencies, tokens.

Reference:
    J. D. C. Little, "A Proof for the Queuing Formula: L = λW", Operations Research 9 (1961).
"""

from calibration.benchmark_reports.report import Report, Row

TOLERANCE = 0.05
"""Difference beyond which figures contradict one another. [1]"""
COMPOSED = 0.1
"""The same for a latency composed of means over requests of different lengths. [1]"""


def doubt_contradictions(report: Report, columns: Row) -> None:
    """Doubt a run whose figures contradict one another.

    Args:
        report: The report.
        columns: Its columns, with values given beside it where it states none.
    """
    _check_latency(report, columns)
    _check_little(report, columns)
    _check_tokens(report, columns)


def _composed_latency(report: Report, columns: Row) -> float | None:
    """Time to first token and of all later ones, if both were measured. [s]"""
    ttft, tpot = report.figures.get("ttft"), report.figures.get("tpot")
    osl = columns.get("osl")
    if ttft is None or tpot is None or osl is None:
        return None
    return float(ttft + (osl - 1) * tpot)


def _check_latency(report: Report, columns: Row) -> None:
    composed, stated = _composed_latency(report, columns), report.latency
    if composed is None or stated is None:
        return
    if abs(composed / stated - 1) > COMPOSED:
        for metric in ("ttft", "tpot"):
            report.doubt(
                metric,
                f"a request took {stated:.3g} s, and its first and later tokens {composed:.3g} s",
            )


def _check_little(report: Report, columns: Row) -> None:
    """Compare the mean number of open requests with the stated one, or with that of clients.

    The last requests of a run end over one latency, in which half of the clients are idle on
    average: N / 2n of the time of N clients that send n requests.
    """
    throughput = report.figures.get("output_throughput")
    latency = report.latency or _composed_latency(report, columns)
    clients, osl, sent = (columns.get(c) for c in ("concurrency", "osl", "num_requests"))
    if throughput is None or latency is None or osl is None:
        return
    opened, tolerance = throughput / osl * latency, _with_rounding(osl)
    said = f"{opened:.4g} requests were open on average by Little's law, and "
    if report.opened is not None and abs(opened - report.opened) > tolerance * report.opened:
        report.doubts.append(f"{said}{report.opened:.4g} are stated")
    if clients is None:
        return
    idle = min(clients / (2 * sent), 0.5) if sent else 0.5
    if not (1 - tolerance) * (1 - idle) * clients <= opened <= (1 + tolerance) * clients:
        report.doubts.append(f"{said}{clients} clients kept them open")


def _with_rounding(osl: float) -> float:
    """Tolerance of a figure that is compared by means of a length in whole tokens. [1]"""
    return TOLERANCE + 0.5 / osl


def _check_tokens(report: Report, columns: Row) -> None:
    throughput, duration = report.figures.get("output_throughput"), report.duration
    osl, sent = columns.get("osl"), columns.get("num_requests")
    if not (throughput and duration and osl and sent) or columns.get("request_rate") is not None:
        return
    tokens = osl * sent
    if abs(throughput * duration / tokens - 1) > _with_rounding(osl):
        report.doubts.append(
            f"{throughput:.4g} tokens a second in {duration:.4g} s are not {tokens:,} tokens"
        )
