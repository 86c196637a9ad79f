// What the theme leaves undone for those who use no mouse: regions that scroll can be reached, the search has a name.
addEventListener('load', () => {
  document.querySelector('.md-search')?.setAttribute('aria-label', 'Search');
  for (const region of document.querySelectorAll('.md-typeset__scrollwrap, .md-typeset pre > code')) region.tabIndex = 0;
});
