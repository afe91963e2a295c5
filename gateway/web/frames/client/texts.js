// What the softphone says, in both languages.

export const TEXTS = {
  en: {
    title: "Softphone", connect: "Connect", why: "Connect the softphone once: sign in here, in a window of its own.",
    disconnect: "Disconnect", number: "Number to call", call: "Call", mine: (n) => `Internal number ${n}`, calls: "Calls", none: "No calls",
    ringing: "Rings", talking: "Talking", ended: "Over", open: "Open the record", hidden: "Hidden number",
    placed: "Your phone will ring, then the number is dialled.", offline: "No connection. Trying again…",
    noPages: "The pages around this softphone do not answer. Calls and dialling work all the same.",
    again: "The connection has ended. Connect again.",
    refused: { 403: "You may not call from this number.", 409: "A call is being placed already.", 422: "This number cannot be dialled.", 429: "Too many calls. Wait a moment.", 503: "The phone system is away. Try again." },
    failed: "The call was not placed.",
    connectTitle: "Connect the softphone", who: (person, company) => `${person}, ${company}`, choose: "Your internal number",
    allow: "Connect", allowed: "Connected. You may close this window.",
    closed: "You are signed in. Go back and press Connect there again.", signIn: "Sign in", signInFirst: "Sign in, then go back and press Connect again.",
    noNumbers: "No internal number is yours: ask your administrator.", notYours: "You may not call in this company.",
    where: (title) => `It will place calls from your number in ${title}, until you sign out, for 12 hours at most.`,
  },
  ru: {
    title: "Софтфон", connect: "Подключить", why: "Подключите софтфон один раз: войдите здесь, в отдельном окне.",
    disconnect: "Отключить", number: "Номер для звонка", call: "Позвонить", mine: (n) => `Внутренний номер ${n}`, calls: "Звонки", none: "Звонков нет",
    ringing: "Звонит", talking: "Разговор", ended: "Завершён", open: "Открыть запись", hidden: "Номер скрыт",
    placed: "Зазвонит ваш телефон, затем набирается номер.", offline: "Нет связи. Пробуем снова…",
    noPages: "Страницы вокруг софтфона не отвечают. Звонки и набор номера работают и так.",
    again: "Подключение закончилось. Подключите снова.",
    refused: { 403: "С этого номера вам звонить нельзя.", 409: "Звонок уже заказан.", 422: "Этот номер набрать нельзя.", 429: "Слишком много звонков. Подождите немного.", 503: "АТС не отвечает. Попробуйте ещё раз." },
    failed: "Звонок не заказан.",
    connectTitle: "Подключить софтфон", who: (person, company) => `${person}, ${company}`, choose: "Ваш внутренний номер",
    allow: "Подключить", allowed: "Подключено. Это окно можно закрыть.",
    closed: "Вы вошли. Вернитесь и нажмите там «Подключить» ещё раз.", signIn: "Войти", signInFirst: "Войдите, затем вернитесь и нажмите «Подключить» ещё раз.",
    noNumbers: "Вашего внутреннего номера нет: обратитесь к администратору.", notYours: "В этой компании вам звонить нельзя.",
    where: (title) => `Он будет заказывать звонки с вашего номера в ${title}, пока вы не выйдете, но не дольше 12 часов.`,
  },
};

export const held = JSON.parse(document.documentElement.dataset.softphone);
export const t = TEXTS[held.language] ?? TEXTS.en;

export function make(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
