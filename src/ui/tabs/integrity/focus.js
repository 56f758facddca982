// To a part of this tab: the hash is the route's, so a link cannot go there by itself.

/** Moves the focus to a heading, and shows it. */
export function focusOn(id) {
  const heading = document.getElementById(id);
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus();
  heading.scrollIntoView({ block: 'start' });
}

/** The same, for a link's click. */
export function goTo(id) {
  return (event) => {
    event.preventDefault();
    focusOn(id);
  };
}
