"""Classes of objects by the numbers of DESC's taxonomy (ELAsTiCC, github.com/LSSTDESC/elasticc).

Digits are levels, so that the ancestors of 2222 (SN Ia) are 2220, 2200 and 2000.
"""

from __future__ import annotations

from ampel_spark.errors import ConfigError, nearest

__all__ = ["NAMES", "ancestors", "class_of"]

#: The name of each class; x1 is "other" of its branch.
NAMES = {
    0: "meta", 100: "other", 200: "residual", 300: "not_classified",
    1000: "static", 2000: "variable",
    2200: "non_recurring",
    2220: "sn_like", 2221: "sn_other", 2222: "sn_ia", 2223: "sn_ibc", 2224: "sn_ii",
    2225: "sn_iax", 2226: "sn_91bg", 2227: "sn_iin",
    2230: "fast", 2231: "fast_other", 2232: "kilonova", 2233: "m_dwarf_flare",
    2234: "dwarf_nova", 2235: "microlensing",
    2240: "long", 2241: "long_other", 2242: "slsn", 2243: "tde", 2244: "ilot", 2245: "cart",
    2246: "pisn",
    2300: "recurring", 2320: "periodic", 2321: "periodic_other", 2322: "cepheid", 2323: "rr_lyrae",
    2324: "delta_scuti", 2325: "eclipsing_binary", 2326: "long_period",
    2330: "non_periodic", 2331: "non_periodic_other", 2332: "agn",
}  # fmt: skip
_IDS = {name: number for number, name in NAMES.items()}


def class_of(word: str | int) -> int:
    """Return the number of a class, given by number or name.

    Raises
    ------
    ConfigError
        If there is no such class.

    Examples
    --------
    >>> class_of("sn_ia"), class_of(2332)
    (2222, 2332)
    """
    number = int(word) if str(word).isdecimal() else _IDS.get(str(word))
    if number not in NAMES:
        raise ConfigError(f"the taxonomy has no class {word!r}{nearest(str(word), _IDS)}")
    return number


def ancestors(number: int) -> list[int]:
    """Return the classes that a class is in, the nearest first.

    Examples
    --------
    >>> ancestors(2222), ancestors(2332)
    ([2220, 2200, 2000], [2330, 2300, 2000])
    """
    above = [number // size * size for size in (10, 100, 1000)]
    return [n for n in dict.fromkeys(above) if n in NAMES and n not in (number, 0)]
