-- Sends a study to the screening node whenever something of it arrived and settled.
function OnStableStudy(studyId, tags, metadata)
  local body = DumpJson({Resources = {studyId}, Asynchronous = true}, true)
  RestApiPost('/modalities/lungwatch/store', body)
end
