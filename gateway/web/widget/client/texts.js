// What the chat says, in both languages.

export const TEXTS = {
  en: {
    open: "Open the chat", close: "Close the chat", frame: "Chat", messages: "Messages", write: "Write a message…", send: "Send",
    attach: "Attach a file", tooLarge: "A file may have at most 20 MB.", notSent: (name) => `${name} could not be sent.`,
    unread: (n) => (n === 1 ? "1 new message" : `${n} new messages`),
    person: "Talk to a person", personAsked: "A person has been asked to answer.",
    ai: "AI assistant", aiAnswers: "The AI assistant answers", human: (name) => (name ? `${name} answers` : "A person answers"),
    team: "Support", queue: "A person will answer here", away: "Nobody is here right now",
    awayHelp: "Leave your e-mail address and we will answer you there or here.",
    name: "Your name", email: "E-mail", you: "You", typing: "is writing…", earlier: "Earlier messages",
    offline: "No connection. Trying again…", sending: "sending…", failed: "not sent", again: "Send again",
    signIn: "Sign in to this site to write to us.", badIdentity: "This site could not confirm who you are.",
    slower: "Too many messages at once. Sent a little later.", tooLong: (n) => `At most ${n} characters.`,
    badEmail: "Write the e-mail address as anna@june.example", file: "file", place: "place", today: "Today",
  },
  ru: {
    open: "Открыть чат", close: "Закрыть чат", frame: "Чат", messages: "Сообщения", write: "Напишите сообщение…", send: "Отправить",
    attach: "Приложить файл", tooLarge: "Файл может занимать не больше 20 МБ.", notSent: (name) => `Не удалось отправить ${name}.`,
    unread: (n) => {
      const [tens, ones] = [n % 100, n % 10];
      const many = tens > 10 && tens < 20 ? 2 : ones === 1 ? 0 : ones > 1 && ones < 5 ? 1 : 2;
      return `${n} ${["новое сообщение", "новых сообщения", "новых сообщений"][many]}`;
    },
    person: "Позвать человека", personAsked: "Мы позвали человека, он ответит здесь.",
    ai: "ИИ-помощник", aiAnswers: "Отвечает ИИ-помощник",
    human: (name) => (name ? `Отвечает ${name}` : "Отвечает человек"),
    team: "Поддержка", queue: "Человек ответит здесь", away: "Сейчас никого нет на месте",
    awayHelp: "Оставьте адрес почты, и мы ответим туда или сюда.",
    name: "Как вас зовут", email: "Почта", you: "Вы", typing: "печатает…", earlier: "Более ранние сообщения",
    offline: "Нет связи. Пробуем снова…", sending: "отправляется…", failed: "не отправлено", again: "Отправить ещё раз",
    signIn: "Чтобы написать нам, войдите на сайт.", badIdentity: "Сайт не смог подтвердить, кто вы.",
    slower: "Слишком много сообщений сразу. Отправим чуть позже.", tooLong: (n) => `Не больше ${n} знаков.`,
    badEmail: "Напишите адрес почты, например anna@june.example", file: "файл", place: "место", today: "Сегодня",
  },
};

// The language to speak: the page's choice, the browser's, or the company's.
export function languageOf(wanted, otherwise) {
  for (const name of [wanted, ...(wanted ? [] : navigator.languages || [])]) {
    const short = String(name || "").slice(0, 2).toLowerCase();
    if (short in TEXTS) return short;
  }
  return otherwise in TEXTS ? otherwise : "en";
}
