// Starts everything.

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
{
  const data = JSON.parse(byId("data").textContent);
  startSlider(data); // first, since the curves take the room that it leaves
  startCurves(data);
}
