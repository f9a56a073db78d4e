"""The heroscript language: playbooks of actions, their parameters, times and stores.

    from heroscript import parse, PlayBook, Params, OurTime

Stands alone: it imports nothing of the other rooms. Files are touched in `heroscript.reader` (reading playbooks) and
`heroscript.kvs` (stores) only; everything else is text in, values out.
"""

from heroscript.action import Action, ActionType
from heroscript.errors import Mistake, ParseError, PlayError
from heroscript.ourtime import OurTime
from heroscript.params import Params
from heroscript.parser import Script, parse
from heroscript.playbook import PlayBook

__all__ = [
    "Action",
    "ActionType",
    "Mistake",
    "OurTime",
    "Params",
    "ParseError",
    "PlayBook",
    "PlayError",
    "Script",
    "parse",
]
