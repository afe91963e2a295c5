// The softphone's side of Salesforce's pages: Open CTI. A number that is clicked is dialled; a client who rings is searched for
// among the records, and their record opens.

export async function start(phone) {
  const cti = window.sforce?.opencti;
  if (!cti) throw new Error("Open CTI is not there");
  cti.onClickToDial({ listener: (clicked) => phone.dial(String(clicked?.number ?? "")) });
  cti.enableClickToDial({ callback: () => {} });
  return {
    show(call) {
      cti.setSoftphonePanelVisibility?.({ visible: true, callback: () => {} });
      cti.searchAndScreenPop({
        searchParams: call.search, queryParams: "", deferred: false, callback: () => {},
        callType: cti.CALL_TYPE?.INBOUND ?? "inbound",
      });
    },
  };
}
