// What the page knows of its chatbot: config.json, models, status, API key. The page never waits for any of it.
import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { fetchConfig, fetchModels, fetchStatus, initialConfig, Refused } from './api';
import { keyStorage } from './storage';
import type { Failure, PageConfig, Status } from './types';

const SOON_MS = 2000;
const LATER_MS = 30_000;

export type KeyState = 'notNeeded' | 'unknown' | 'missing' | 'checking' | 'wrong' | 'unchecked' | 'ok';

interface Found {
  status: Status | null;
  /** Why the chatbot cannot answer now, or null. */
  away: Failure | 'unreachable' | null;
}

export interface Service extends Found {
  config: PageConfig;
  models: readonly string[];
  online: boolean;
  key: string | null;
  keyState: KeyState;
  giveKey(key: string): void;
  forgetKey(): void;
  /** Something failed: look soon. */
  noteFailure(failure: Failure): void;
}

export function useService(): Service {
  const [config, setConfig] = useState(initialConfig);
  const access = useAccess(config);
  const { status, away, looked, look } = useStatus(setConfig);
  const online = useOnline();
  const { check } = access;

  // When the chatbot is back, or answers in another phase, the models may be others.
  const asksForKey = config.access === 'APIKey';
  const reachable = looked && away === null;
  useEffect(() => {
    if (reachable || asksForKey) check();
  }, [reachable, asksForKey, status?.phase, check]);

  const noteFailure = useCallback(
    (failure: Failure) => {
      if (failure.status === 401) check();
      else look();
    },
    [check, look],
  );
  return useMemo(
    () => ({ config, status, away, online, noteFailure, ...access }),
    [config, status, away, online, noteFailure, access],
  );
}

/** The models, and whether a key is needed to see them. */
function useAccess(config: PageConfig) {
  const [key, setKey] = useState(keyStorage.read);
  const [models, setModels] = useState<readonly string[]>([]);
  const [keyState, setKeyState] = useState<KeyState>('unknown');
  const current = useRef(key);
  const asks = config.access === 'APIKey';

  const checkNow = useCallback(async () => {
    const used = current.current;
    if (asks && !used) {
      setKeyState('missing');
      return;
    }
    try {
      const found = await fetchModels(used);
      if (used !== current.current) return;
      setModels(found);
      setKeyState(used || asks ? 'ok' : 'notNeeded');
    } catch (error) {
      if (used !== current.current) return;
      const refused = error instanceof Refused && error.failure.status === 401;
      if (refused) setKeyState(used ? 'wrong' : 'missing');
      else setKeyState((state) => (state === 'checking' ? 'unchecked' : state));
    }
  }, [asks]);

  const check = useCallback(() => void checkNow(), [checkNow]);

  const set = useCallback(
    (value: string) => {
      current.current = value || null;
      setKey(current.current);
      keyStorage.write(value);
      setKeyState(value ? 'checking' : 'missing');
      if (value) check();
    },
    [check],
  );
  return useMemo(
    () => ({
      key,
      models,
      keyState,
      check,
      giveKey: set,
      forgetKey: () => set(''),
    }),
    [key, models, keyState, check, set],
  );
}

/** Looks every half a minute, and every two seconds while something is not as it should be. */
function useStatus(setConfig: (config: PageConfig) => void) {
  const [state, setState] = useState<Found & { looked: boolean }>({ status: null, away: null, looked: false });
  const wake = useRef<() => void>(() => undefined);

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let ended = false;
    let looking = false;
    let askedAgain = false;
    const visit = async () => {
      // What is being looked at may be older than what made somebody ask.
      askedAgain = looking;
      if (looking) return;
      looking = true;
      clearTimeout(timer);
      // config.json changes without a restart, and comes from elsewhere: neither waits for the other.
      const config = fetchConfig().then(
        (found) => {
          if (!ended) setConfig(found);
          return found.suspended;
        },
        () => true,
      );
      const found = await lookOnce();
      if (!ended) setState({ ...found, looked: true });
      const unsettled = (await config) || found.away !== null || found.status?.download != null;
      looking = false;
      if (!ended) timer = setTimeout(again, askedAgain ? 0 : unsettled ? SOON_MS : LATER_MS);
    };
    const again = () => {
      if (document.hidden) timer = setTimeout(again, SOON_MS);
      else void visit();
    };
    const soon = () => void visit();
    wake.current = soon;
    window.addEventListener('online', soon);
    void visit();
    return () => {
      ended = true;
      clearTimeout(timer);
      window.removeEventListener('online', soon);
    };
  }, [setConfig]);

  const look = useCallback(() => wake.current(), []);
  return { ...state, look };
}

async function lookOnce(): Promise<Found> {
  try {
    return { status: await fetchStatus(), away: null };
  } catch (error) {
    if (!(error instanceof Refused)) return { status: null, away: 'unreachable' };
    // An older chatbot has no status, and that is no reason to say that it is away.
    return { status: null, away: error.failure.status >= 500 ? error.failure : null };
  }
}

function useOnline(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const changed = () => setOnline(navigator.onLine);
    window.addEventListener('online', changed);
    window.addEventListener('offline', changed);
    return () => {
      window.removeEventListener('online', changed);
      window.removeEventListener('offline', changed);
    };
  }, []);
  return online;
}
