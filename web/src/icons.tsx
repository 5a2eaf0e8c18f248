// The page's icons, drawn with the colour of the text around them.
import type { ReactNode } from 'react';

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg className="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      {children}
    </svg>
  );
}

const of = (path: string) => () => (
  <Icon>
    <path d={path} />
  </Icon>
);

export const SendIcon = of('M10 16V4.5M5 9l5-4.8L15 9');
export const CopyIcon = of('M7.5 7.5h8v9h-8zM12.5 7.5v-4h-8v9h3');
export const CheckIcon = of('M4 10.5l4 4 8-9');
export const RetryIcon = of('M15.5 7A6.5 6.5 0 1 0 16.5 11M16 3v4.5h-4.5');
export const EditIcon = of('M4 16l1-4 8-8 3 3-8 8zM11.5 5.5l3 3');
export const MenuIcon = of('M3.5 6h13M3.5 10h13M3.5 14h8');
export const NewIcon = of('M10 4v12M4 10h12');
export const TrashIcon = of('M4 6h12M8 6V3.5h4V6M5.5 6l.8 10.5h7.400L14.5 6M8.5 9v4.5M11.5 9v4.5');
export const DownIcon = of('M10 4v11.5M5 11l5 4.800L15 11');
export const ExportIcon = of('M10 3v9M6.5 9l3.5 3.5L13.5 9M4 13.5V16.5h12V13.5');
export const SunIcon = of(
  'M10 6.5a3.5 3.5 0 1 0 .01 0M10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.5 4.5l1 1M14.5 14.5l1 1M4.5 15.5l1-1M14.5 5.5l1-1',
);
export const MoonIcon = of('M16 11.5A6.5 6.5 0 1 1 8.5 4a5 5 0 0 0 7.5 7.5z');
export const AutoIcon = of('M10 3.5a6.5 6.5 0 1 0 .01 0M10 3.5v13M12.5 4.5v11M14.800 6v8');
export const CloseIcon = of('M5 5l10 10M15 5L5 15');

export function StopIcon() {
  return (
    <Icon>
      <rect x="5.5" y="5.5" width="9" height="9" rx="1" className="filled" />
    </Icon>
  );
}
