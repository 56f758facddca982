// The one place that names the vendored file, so that a new version changes one line.
export {
  Component, createContext, h, html, render, useCallback, useContext, useEffect, useErrorBoundary,
  useLayoutEffect, useMemo, useReducer, useRef, useState,
} from './vendor/htm-3.1.1/preact/standalone.module.js';
