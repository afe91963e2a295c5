"""What an organisation's administrator enters there. Pure; without secrets: the softphone's address is shown on the integration's page."""

from collections.abc import Sequence

from adapters.base import PUBLIC_URL, Advice
from adapters.salesforce.settings import SalesforceSettings

_CALL_FIELD = "GwCallId__c"


def advice(settings: SalesforceSettings | None) -> Sequence[Advice]:
    """The app, the field and the softphone."""
    grant = settings.grant if settings is not None else "client_credentials"
    name = (settings.call_field if settings is not None else "") or _CALL_FIELD
    return (_app(grant), _field(name), _softphone())


def _app(grant: str) -> Advice:
    title = {"en": "An app in Salesforce", "ru": "Приложение в Salesforce"}
    if grant == "jwt":
        return Advice(title, {
            "en": "Setup, External Client App Manager, New: switch OAuth on with the scopes api and refresh_token, enable the JWT bearer flow "
            "with your certificate, and pre-authorise a profile or permission set of the user. Then enter the consumer key, the user "
            "name and the private key above. A callback address has to be entered there too; this one does no harm.",
            "ru": "Setup, External Client App Manager, New: включите OAuth с областями api и refresh_token, разрешите JWT bearer flow "
            "с вашим сертификатом и предварительно разрешите приложение профилю или набору разрешений пользователя. Затем введите выше consumer "
            "key, имя пользователя и закрытый ключ. Адрес обратного вызова там тоже нужен; этот безвреден.",
        }, f"{PUBLIC_URL}/oauth/salesforce/callback")  # fmt: skip
    if grant == "refresh":
        return Advice(title, {
            "en": "Setup, External Client App Manager, New: switch OAuth on with the scopes api and refresh_token; this is its callback "
            "address. Then enter the consumer key and secret above, save, and connect.",
            "ru": "Setup, External Client App Manager, New: включите OAuth с областями api и refresh_token; это его адрес обратного "
            "вызова. Затем введите выше consumer key и секрет, сохраните и подключите.",
        }, f"{PUBLIC_URL}/oauth/salesforce/callback")  # fmt: skip
    return Advice(title, {
        "en": "Setup, External Client App Manager, New: switch OAuth on with the scope api, enable the client credentials flow, and choose as "
        "its run-as user somebody who may edit tasks, leads and contacts. Then enter the consumer key and secret above. "
        "A callback address has to be entered there too; this one does no harm.",
        "ru": "Setup, External Client App Manager, New: включите OAuth с областью api, разрешите client credentials flow и выберите "
        "пользователя, от которого работать: он должен иметь право изменять задачи, лиды и контакты. Затем введите выше consumer key и "
        "секрет. Адрес обратного вызова там тоже нужен; этот безвреден.",
    }, f"{PUBLIC_URL}/oauth/salesforce/callback")  # fmt: skip


def _field(name: str) -> Advice:
    return Advice(
        {"en": "A field for the id of a call", "ru": "Поле для идентификатора звонка"},
        {
            "en": "Setup, Object Manager, Activity, Fields, New: Text of 255 characters, Unique, External ID; visible to the user of the app. Then "
            "enter its API name above. Without it a task is looked for before it is sent again.",
            "ru": "Setup, Object Manager, Activity, Fields, New: Text, 255 знаков, Unique, External ID; видимое пользователю приложения. "
            "Затем введите выше его API-имя. Без него перед повтором задача ищется.",
        },
        name,
    )


def _softphone() -> Advice:
    return Advice(
        {"en": "The softphone: cards and click-to-call", "ru": "Софтфон: карточки и звонки по клику"},
        {
            "en": "Save this as softphone.xml, with the softphone's address of this page in it. In Salesforce: Setup, Call Centers, Import; "
            "add your users; put Open CTI Softphone into the app's utility bar. Whoever uses it signs in here once, and calls from an "
            "internal number of their own.",
            "ru": "Сохраните это как softphone.xml, вписав адрес софтфона с этой страницы. В Salesforce: Setup, Call Centers, Import; "
            "добавьте пользователей; добавьте Open CTI Softphone в панель утилит приложения. Каждый пользователь входит здесь один раз и "
            "звонит со своего внутреннего номера.",
        },
        CALL_CENTER.format(address=f"{PUBLIC_URL}/frames/salesforce/HOOK_ID"),
    )


CALL_CENTER = """<callCenter>
  <section sortOrder="0" name="reqGeneralInfo" label="General Information">
    <item sortOrder="0" name="reqInternalName" label="InternalName">TelephonyGateway</item>
    <item sortOrder="1" name="reqDisplayName" label="Display Name">Telephony gateway</item>
    <item sortOrder="2" name="reqAdapterUrl" label="CTI Adapter URL">{address}</item>
    <item sortOrder="3" name="reqUseApi" label="Use CTI API">true</item>
    <item sortOrder="4" name="reqSoftphoneHeight" label="Softphone Height">420</item>
    <item sortOrder="5" name="reqSoftphoneWidth" label="Softphone Width">320</item>
    <item sortOrder="6" name="reqSalesforceCompatibilityMode" label="Salesforce Compatibility Mode">Lightning</item>
  </section>
</callCenter>"""
