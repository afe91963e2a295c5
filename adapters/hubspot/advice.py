"""What a HubSpot administrator enters there. Pure; without secrets."""

from collections.abc import Sequence

from adapters.base import PUBLIC_URL, Advice
from adapters.hubspot.settings import HubSpotSettings

SCOPES = (
    "crm.objects.contacts.read", "crm.objects.contacts.write", "crm.objects.owners.read",
)  # fmt: skip
"""Without these nothing works; calls and tasks are among what belongs to contacts."""
OPTIONAL_SCOPES = (
    "crm.schemas.contacts.read", "crm.schemas.contacts.write", "crm.objects.deals.read", "crm.objects.deals.write",
    "crm.schemas.deals.read", "crm.schemas.deals.write", "crm.objects.line_items.read", "crm.objects.line_items.write",
)  # fmt: skip
"""For properties of ours, by which a repeat is recognised at once; for orders as deals."""


def advice(settings: HubSpotSettings | None) -> Sequence[Advice]:
    """For a private app, or for one with OAuth; then click-to-call."""
    scopes = "\n".join((*SCOPES, *OPTIONAL_SCOPES))
    private = Advice(
        {"en": "Scopes of the app", "ru": "Права приложения"},
        {
            "en": "In HubSpot: Settings, Integrations, Private apps, Create. Choose these scopes, then enter the app's token above. "
            "An app with OAuth needs the same ones. The schemas, deals and line items are optional: for properties of ours, and for orders as deals.",
            "ru": "В HubSpot: Settings, Integrations, Private apps, Create. Выберите эти права и введите токен приложения выше. "
            "Приложению с OAuth нужны те же. Права schemas, deals и line_items необязательны: для наших свойств и для заказов в виде сделок.",
        },
        scopes,
    )
    oauth = Advice(
        {"en": "Redirect URL of an app with OAuth", "ru": "Redirect URL приложения с OAuth"},
        {
            "en": "In the app's settings, Auth. Then enter its client id and secret above, save, and connect.",
            "ru": "В настройках приложения, раздел Auth. Затем введите выше его Client ID и Client secret, сохраните и подключите.",
        },
        f"{PUBLIC_URL}/oauth/{__name__.split('.')[1]}/callback",
    )
    click = Advice(
        {"en": "Click-to-call from HubSpot", "ru": "Звонок по клику из HubSpot"},
        {
            "en": "In a custom property, a card or a workflow, as a link. clientId is an API key of ours with the scope for it, code the "
            "employee's internal number, phone the client's.",
            "ru": "В своём свойстве, карточке или процессе, как ссылка. clientId — наш ключ API с правом на звонки, code — внутренний "
            "номер сотрудника, phone — номер клиента.",
        },
        f"{PUBLIC_URL}/api/makecallexternal?clientId=KEY&code=150&phone=+375291112233",
    )
    with_token = settings is not None and settings.api_key is not None
    return (private, click) if with_token else (private, oauth, click)
