// Values that more than one part of the page looks at.
import { useEffect, useState } from './preact.js';

/**
 * A value with those who are told when it changes.
 * @template T
 * @param {T} value
 * @returns {{get: () => T, set: (next: T) => void, subscribe: (told: (value: T) => void) => () => void}}
 */
export function observable(value) {
  const told = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const tell of [...told]) tell(value);
    },
    subscribe(tell) {
      told.add(tell);
      return () => told.delete(tell);
    },
  };
}

/** The value of an observable; the component is drawn again when it changes. */
export function useObservable(source) {
  const [value, setValue] = useState(source.get());
  useEffect(() => {
    setValue(source.get());
    return source.subscribe(setValue);
  }, [source]);
  return value;
}
