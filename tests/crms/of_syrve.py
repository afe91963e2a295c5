"""The restaurant cloud before the suite, under its second name and by its newer access."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.crms import of_iiko


class Cloud(of_iiko.Cloud):
    """An account by an application's key."""

    def settings(self) -> Mapping[str, Any]:
        newer = {"api_key": self.crm.API_KEY, "app_id": self.crm.APP_ID, "client_secret": self.crm.CLIENT_SECRET}
        return {**{name: value for name, value in super().settings().items() if name != "api_login"}, **newer}


CRM = replace(of_iiko.CRM, kind="syrve", make=Cloud)
