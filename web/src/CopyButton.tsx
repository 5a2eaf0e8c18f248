// Copies a text and says whether that worked, for a moment.
import { useEffect, useState } from 'react';
import { copyText } from './browser';
import { CheckIcon, CopyIcon } from './icons';
import { text } from './text';

const SHOWN_MS = 2000;

export function CopyButton({ value, label }: { value: string; label: string }) {
  const [result, setResult] = useState<'copied' | 'failed' | null>(null);
  useEffect(() => {
    if (!result) return;
    const timer = setTimeout(() => setResult(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [result]);
  const said = result === 'copied' ? text.copied : result === 'failed' ? text.copyFailed : label;
  return (
    <button
      type="button"
      className="quiet"
      onClick={() => void copyText(value).then((worked) => setResult(worked ? 'copied' : 'failed'))}
    >
      {result === 'copied' ? <CheckIcon /> : <CopyIcon />}
      <span>{said}</span>
    </button>
  );
}
