// Every text that the page itself says. Another language is another object of this type.

const REASONS: Record<string, string> = {
  RateLimited: 'the provider’s limit is reached',
  ProviderUnavailable: 'the provider does not answer',
  TokenRejected: 'the provider refuses the token',
  AccessDenied: 'the model may not be used',
  ModelNotFound: 'the model does not exist',
  ModelNotReady: 'the model is not ready yet',
  EngineDown: 'the engine is down',
};

export const text = {
  untitled: 'Chatbot',
  newChat: 'New chat',
  chats: 'Chats',
  noChats: 'Your chats stay in this browser.',
  openChats: 'Show chats',
  closeChats: 'Hide chats',
  conversation: 'Conversation',
  deleteChat: (title: string) => `Delete “${title}”`,
  deleted: (title: string) => `“${title}” was deleted.`,
  undo: 'Undo',
  export: 'Export',
  exportMarkdown: 'Markdown',
  exportJson: 'JSON',
  theme: { auto: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' },
  model: 'Model',
  defaultGreeting: 'What can I help with?',
  placeholder: 'Write a message',
  message: 'Message',
  send: 'Send',
  stop: 'Stop',
  you: 'You',
  assistant: 'Assistant',
  edit: 'Edit',
  editing: 'Edit message',
  editHint: 'Sending removes everything below this message.',
  cancel: 'Cancel',
  retry: 'Retry',
  retryIn: (seconds: number) => `Retry in ${seconds} s`,
  copy: 'Copy',
  copied: 'Copied',
  copyFailed: 'Copying is not allowed here',
  copyCode: 'Copy code',
  code: 'Code',
  codeIn: (language: string) => `Code in ${language}`,
  table: 'Table',
  answering: 'Answering…',
  ready: 'Answer ready',
  failed: 'The answer failed',
  stopped: 'Stopped',
  cutByLength: 'The answer reached its greatest length.',
  jump: 'Jump to latest',
  showAll: 'Show all',
  showLess: 'Show less',
  requestId: 'Request',
  fallback: (reason: string) => `Stand-in answer: ${REASONS[reason] ?? reason}`,
  fallbackNow: (reason: string) => `A stand-in answers for now: ${REASONS[reason] ?? reason}.`,
  image: (alt: string) => (alt ? `Image: ${alt}` : 'Image'),
  emptyAnswer: 'The answer is empty.',
  unexpectedStatus: (status: number) => `The server answered ${status} without saying why.`,
  notAStream: 'Something between this page and the chatbot gave another answer than a chat.',
  badEvent: 'The answer could not be read.',
  connectionClosed: 'The connection closed before the answer was complete.',
  unreachable: 'The chatbot could not be reached.',
  offlineSend: 'This device is offline.',
  reloaded: 'The page was closed before the answer was complete.',
  offline: 'You are offline. What you write stays here.',
  starting: 'The chatbot is starting or cannot be reached. This page keeps trying.',
  switching: 'The chatbot is switching to another model. This page keeps trying.',
  suspended: 'This chatbot is paused by its owner.',
  downloading: 'The model is being downloaded',
  left: (time: string) => `${time} left`,
  noStorage: 'This browser does not keep chats: they are gone when the page is closed.',
  storageFull: 'The browser’s storage is full: new messages are not kept. Delete or export chats.',
  tryAgain: 'Try again',
  forked: 'This chat was changed in another tab. Yours goes on as a copy.',
  keyTitle: 'This chatbot asks for an API key',
  keyLabel: 'API key',
  keyHint: 'It is kept in this tab until you close it.',
  keyContinue: 'Continue',
  keyWrong: 'This key was not accepted. Check it and try again.',
  keyUnchecked: 'The key could not be checked.',
  forgetKey: 'Forget API key',
  broken: 'This page has met an error. Your chats are kept.',
  reload: 'Reload',
};

/** Bytes for people. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** A span of time for people. */
export function span(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}
