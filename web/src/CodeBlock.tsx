// A block of code with its language and a copy button. Colours come when it has stopped growing.
import { memo, useEffect, useState } from 'react';
import { CopyButton } from './CopyButton';
import { text } from './text';
import type { Token } from './tokens';

const PAUSE_MS = 120;
const LONGEST_COLOURED = 50_000;

export const CodeBlock = memo(function CodeBlock({ code, language }: { code: string; language: string }) {
  const [coloured, setColoured] = useState<{ code: string; tokens: Token[] } | null>(null);
  useEffect(() => {
    if (!language || code.length > LONGEST_COLOURED) return;
    let stale = false;
    const timer = setTimeout(() => {
      import('./highlight').then(
        ({ highlight }) => {
          const tokens = stale ? null : highlight(code, language.toLowerCase());
          if (tokens) setColoured({ code, tokens });
        },
        () => undefined, // a newer version of the page has other files: the code stays without colours
      );
    }, PAUSE_MS);
    return () => {
      stale = true;
      clearTimeout(timer);
    };
  }, [code, language]);
  return (
    <figure className="code">
      <figcaption>
        <span>{language}</span>
        <CopyButton value={code} label={text.copyCode} />
      </figcaption>
      <pre tabIndex={0} aria-label={language ? text.codeIn(language) : text.code}>
        <code>
          {coloured?.code === code
            ? coloured.tokens.map(({ kind, text: part }, index) =>
                kind ? (
                  <span key={index} className={kind}>
                    {part}
                  </span>
                ) : (
                  part
                ),
              )
            : code}
        </code>
      </pre>
    </figure>
  );
});
