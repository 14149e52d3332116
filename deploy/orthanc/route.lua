-- Orthanc: sends each new radiograph to the modality 'cxrseg', and never back what cxrseg has made.
local radiographs = { CR = true, DX = true, DR = true, RG = true }

function OnStoredInstance(instanceId, tags, metadata, origin)
   if radiographs[tags['Modality']] and tags['Manufacturer'] ~= 'cxrseg' then
      SendToModality(instanceId, 'cxrseg')
   end
end
