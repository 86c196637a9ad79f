// What the theme leaves undone. For those who use no mouse: regions that scroll can be reached, the search has a name.
// For those with a phone: cells that hold a sentence are not squeezed into columns of words, since tables scroll.
addEventListener('load', () => {
  document.querySelector('.md-search')?.setAttribute('aria-label', 'Search');
  for (const cell of document.querySelectorAll('.md-typeset td')) {
    if (cell.innerText.length > 60) cell.style.minWidth = '9rem';
  }
  for (const region of document.querySelectorAll('.md-typeset__scrollwrap, .md-typeset pre > code')) region.tabIndex = 0;
});
