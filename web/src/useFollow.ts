// Keeps a growing conversation at its end, until the reader scrolls up. It knows only an element that scrolls.
import { useCallback, useEffect, useRef, useState } from 'react';

const NEAR_PX = 48;

export function useFollow() {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const lastTop = useRef(0);
  const [detached, setDetached] = useState(false);

  const pin = useCallback(() => {
    const box = scroller.current;
    if (!box) return;
    box.scrollTop = box.scrollHeight;
    // Known before its event comes: a view that content has moved up was not moved by the reader.
    lastTop.current = box.scrollTop;
  }, []);

  const follow = useCallback(
    (yes: boolean) => {
      following.current = yes;
      setDetached(!yes);
      if (yes) pin();
    },
    [pin],
  );

  useEffect(() => {
    const box = scroller.current;
    if (!box || !content.current) return;
    const rest = () => box.scrollHeight - box.clientHeight - box.scrollTop;
    const scrolled = () => {
      const up = box.scrollTop < lastTop.current;
      const down = box.scrollTop > lastTop.current;
      lastTop.current = box.scrollTop;
      // Content that shrinks moves the view up as well, but leaves it at the end.
      if (up && rest() > 1) follow(false);
      else if (down && rest() <= NEAR_PX && !following.current) follow(true);
    };
    const wheeled = (event: WheelEvent) => {
      if (event.deltaY < 0 && box.scrollHeight > box.clientHeight) follow(false);
    };
    const grown = new ResizeObserver(() => {
      if (following.current) pin();
    });
    box.addEventListener('scroll', scrolled, { passive: true });
    box.addEventListener('wheel', wheeled, { passive: true });
    grown.observe(content.current);
    grown.observe(box);
    return () => {
      box.removeEventListener('scroll', scrolled);
      box.removeEventListener('wheel', wheeled);
      grown.disconnect();
    };
  }, [follow, pin]);

  return { scroller, content, detached, follow };
}
