"""What a refusal means to a person: what happened, and what to do. The same sentences stand in each name's `texts.toml` under `reason`,
in both languages; a test compares. Pure. Read `codec.py` for which refusal is which.
"""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, str] = MappingProxyType({
    "key": "the restaurant cloud does not accept the API login or the application's key: enter a valid one",
    "right": "the restaurant cloud does not allow this with our access: add the right in the web office, at the API login or the key",
    "right_guests": "our access may not read or make guests: add the right for guests in the web office, at the API login or the key",
    "right_orders": "our access may not make or read orders: add the right for orders in the web office, at the API login or the key",
    "right_menu": "our access may not read the menu: add the right for the menu in the web office, at the API login or the key",
    "right_notifications": "our access may not show attentions at the till: add the right in the web office, or switch attentions off",
    "right_webhooks": "our access may not enter webhooks: add the right in the web office, or enter our address there by hand and switch this off",
    "loyalty": "guests are not switched on for this organization: switch the loyalty programme on in the web office",
    "elsewhere": "there is no restaurant cloud at this address: correct the address of the API",
    "organization": "the organization is not one of this access: choose it again",
    "nowhere": "our access has no organization: give it one in the web office, at the API login or the key",
    "terminal": "the terminal group is switched off or not one of this access: choose it again",
    "till": "the till is not connected to the restaurant cloud now: the order waits; look at the till and its internet",
    "till_late": "the till did not take the order in time: look whether it is there before the order is made again by hand",
    "foreign_items": "the order has items that are not from this menu: make the order at the till by hand",
    "product": "an item of the order is not on the menu any more: take the menu anew, and make the order at the till by hand",
    "stopped": "an item of the order is on the till's stop-list: agree on another one with the client",
    "no_phone": "the client's phone is not known, or it is none that the till takes: make the order at the till by hand",
    "duplicate": "the till knows this order, but not what became of it: look for it at the till",
    "too_old": "the till's version is too old for this: have it updated",
    "order_refused": "the till refused the order: read what it said, and make the order at the till by hand",
    "order_gone": "the till does not know this order any more",
    "cancel_refused": "the till did not cancel the order: cancel it there by hand",
    "other_webhook": "another service's webhook stands in this organization: ours is not entered, so that the other goes on working",
    "no_menu": "the menu has no items that can be sold: check the organization and the external menu",
    "choose": "choose from the list",
})  # fmt: skip
