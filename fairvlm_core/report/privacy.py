"""Which cells of a table are hidden, so that small counts cannot be seen or computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..errors import InputError

Cell = Literal["", "small", "withheld"]


def check_min_cell(min_cell: int) -> int:
    """The number itself.

    Raises
    ------
    InputError
        It is negative.
    """
    if min_cell < 0:
        raise InputError(f"min_cell: {min_cell} is negative; 5 hides cells with fewer than 5 people, 0 hides none")
    return min_cell


def hidden_cells(*columns: Sequence[int], min_cell: int) -> list[Cell]:
    """For each row of a table with known column totals: shown, too small, or withheld to protect a small one.

    Parameters
    ----------
    columns : sequences of int, one length
        People in each row, by column (such as all, with and without the finding). A row is shown or hidden as a whole.
    min_cell : int
        A row with fewer people than this in any column is small; 0 and 1 hide nothing.

    Returns
    -------
    list of "" (shown), "small" or "withheld", a row each

    Raises
    ------
    InputError
        `min_cell` is negative.

    Notes
    -----
    A reader can subtract the shown cells from the column total and so knows the sum of the hidden ones. Rows are withheld,
    smallest first, until every small cell could have any value from 0 to `min_cell` - 1 with this sum. If hiding all rows
    does not achieve that, all are withheld and none is called small.

    Examples
    --------
    >>> hidden_cells([3, 40, 60], min_cell=5)                # 3 alone could be computed from the total
    ['small', 'withheld', '']
    >>> hidden_cells([3, 2, 1, 60], min_cell=5)              # 3 + 2 + 1 = 6 has many solutions
    ['small', 'small', 'small', '']
    >>> hidden_cells([4, 4, 60], min_cell=5)                 # 8 has only one: 4 + 4
    ['small', 'small', 'withheld']
    >>> hidden_cells([0, 6], min_cell=5)                     # 6 and "fewer than 5" leave 0 or 1
    ['withheld', 'withheld']
    >>> hidden_cells([20, 40], [2, 30], min_cell=5), hidden_cells([3, 40], min_cell=0)
    (['small', 'withheld'], ['', ''])
    """
    check_min_cell(min_cell)
    n = len(columns[0]) if columns else 0
    if min_cell <= 1 or n == 0:
        return [""] * n
    small = [any(column[i] < min_cell for column in columns) for i in range(n)]
    if not any(small):
        return [""] * n
    cells: list[Cell] = ["small" if value else "" for value in small]
    spare = sorted((i for i in range(n) if not small[i]), key=lambda i: columns[0][i])
    while not all(_free(column, cells, min_cell) for column in columns):
        if not spare:
            return ["withheld"] * n
        cells[spare.pop(0)] = "withheld"
    return cells


def _free(column: Sequence[int], cells: Sequence[Cell], min_cell: int) -> bool:
    """Whether each small cell of a column could have any value from 0 to min_cell - 1, given the sum of the hidden ones.

    A hidden row can be small in one column only. A reader may know that every other hidden number is at least `min_cell`.
    """
    hidden = [value for value, cell in zip(column, cells, strict=True) if cell]
    below = [value for value in hidden if value < min_cell]
    most = min_cell - 1
    if not below:
        return True
    large = len(hidden) - len(below)
    total = sum(hidden)
    if large == 0:
        return len(below) > 1 and most <= total <= (len(below) - 1) * most
    return total >= most + min_cell * large
